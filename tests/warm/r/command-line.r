print(commandArgs())
print(commandArgs(TRUE))
print(interactive())
