#!/usr/bin/env Rscript
print(1)
