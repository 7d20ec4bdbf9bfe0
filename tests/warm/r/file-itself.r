print(file.size("main.r"))
print(readLines("main.r", 1))
print(list.files(all.files = TRUE))
print(sub(".*=", "", grep("--file", commandArgs(), value = TRUE)))
