f <- function(x) {
  # a comment
  x
}
print(f)
print(getOption("keep.source"))
print(attributes(f))
