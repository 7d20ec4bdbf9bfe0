fit <- lm(mpg ~ wt, data = mtcars)
print(summary(fit))
print(t.test(mtcars$mpg, mu = 20)$p.value)
