# Waits for a program in R. The system profile reads this file, named by R_TESTS, before it attaches
# the default packages; this works with --vanilla too.
#
# R opens `--file=main.r` before it runs any code of R, and R code can neither close a descriptor nor
# read one by its number. So the command line in r.toml makes an empty main.r first, leaves
# descriptors 3 and 4 to a process that is no child of R, and has that process pass the job on by a
# named pipe. It says that R is ready as soon as this file opens that pipe.
local({
    # source(), which reads this file, has loaded it; plain R loads the package methods first.
    unloadNamespace("utils")
    library.dynam.unload("utils", system.file(package = "utils"))
    # What follows this profile in a plain start; done twice it changes nothing.
    .OptRequireMethods()
    .First.sys()

    links <- list.files("/proc/self/fd", full.names = TRUE)
    program <- links[Sys.readlink(links) %in% file.path(getwd(), "main.r")]
    unlink("main.r")

    pipe <- Sys.getenv("R_WARM")
    Sys.unsetenv(c("R_WARM", "R_TESTS"))
    job <- file(pipe, "rb", raw = TRUE)
    # The other side has it open now, or open() would not have returned.
    unlink(pipe)
    if (!length(readBin(job, raw(), 65536L))) quit("no", 0L, FALSE)
    close(job)

    # R holds the empty file open, so it gets the program's text; the name already leads to the
    # file of the job.
    to <- file(program, "wb", raw = TRUE)
    writeBin(readBin("main.r", raw(), file.size("main.r")), to)
    close(to)
})
