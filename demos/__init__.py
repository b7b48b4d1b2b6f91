"""One module per tab: the layout, one short handler per event, and `present(result)`. No torch here, no model
library.
"""
