puts('not closed'
