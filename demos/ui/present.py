"""Presentation: what a lesson shows first, as large as the screen allows. `assets/style.css` says what stays.

P begins and ends it, Escape ends it, S is a spotlight around the pointer. Page up and down, which is what a presenter's
remote sends, go from tab to tab; the arrow keys do so where a tab has the focus.
"""

TOGGLE = "() => document.body.classList.toggle('presenting') || document.body.classList.remove('spotlight')"

KEYS = """() => {
document.addEventListener('pointermove', event => {
  document.body.style.setProperty('--pointer', `${event.clientX}px ${event.clientY}px`);
});
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const along = {ArrowLeft: -1, ArrowRight: 1}[event.key] * (document.dir === 'rtl' ? -1 : 1);
  if (along && event.target.matches('[role=tab]')) {
    const bar = [...event.target.parentElement.querySelectorAll('[role=tab]')];
    const next = bar[bar.indexOf(event.target) + along];
    next?.click();
    next?.focus();
    return;
  }
  if (event.target.closest('input:not([type=range]), textarea, select')) return;
  const presenting = document.body.classList.contains('presenting');
  if (event.key === 'p' || event.key === 'P') (%s)();
  else if (presenting && (event.key === 's' || event.key === 'S')) document.body.classList.toggle('spotlight');
  else if (presenting && event.key === 'Escape') document.body.classList.remove('presenting', 'spotlight');
  else if (presenting && (event.key === 'PageDown' || event.key === 'PageUp')) {
    const tabs = [...document.querySelectorAll('[role=tab][id^=tab-]')];
    const here = tabs.findIndex(tab => tab.getAttribute('aria-selected') === 'true');
    tabs[here + (event.key === 'PageDown' ? 1 : -1)]?.click();
    event.preventDefault();
  }
});
}""".replace("%s", TOGGLE)
