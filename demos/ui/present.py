"""Presentation: what a lesson shows first, as large as the screen allows. `assets/style.css` says what stays.

P begins and ends it, Escape ends it. Page up and down, which is what a presenter's remote sends, go from tab to tab.
"""

TOGGLE = "() => { document.body.classList.toggle('presenting'); }"

KEYS = """() => document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest('input:not([type=range]), textarea, select')) return;
  const presenting = document.body.classList.contains('presenting');
  if (event.key === 'p' || event.key === 'P') document.body.classList.toggle('presenting');
  else if (presenting && event.key === 'Escape') document.body.classList.remove('presenting');
  else if (presenting && (event.key === 'PageDown' || event.key === 'PageUp')) {
    const tabs = [...document.querySelectorAll('[role=tab][id^=tab-]')];
    const here = tabs.findIndex(tab => tab.getAttribute('aria-selected') === 'true');
    tabs[here + (event.key === 'PageDown' ? 1 : -1)]?.click();
    event.preventDefault();
  }
})"""
