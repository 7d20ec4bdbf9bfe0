1 + 1
invisible(3)
"text"
x <- 5
x
c(a = 1, b = 2)
NULL
data.frame(a = 1:2, b = c("x", "y"))
