print(showConnections())
print(nrow(showConnections(all = TRUE)))
print(file('x'))
