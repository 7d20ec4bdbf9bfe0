print(nchar(basename(tempdir())))
print(list.files(tempdir()))
