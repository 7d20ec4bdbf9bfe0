input <- file("stdin", "rb")
output <- pipe("cat", "wb")
while (length(block <- readBin(input, "raw", 65536)) > 0) {
  writeBin(block, output)
}
close(output)
