plot(1:3)
unlink('Rplots.pdf')
