o <- options()
o$browser <- o$pager <- NULL
str(o)
