import sys

if sys.version_info >= (3, 14):
    from concurrent import interpreters

    interpreter = interpreters.create()
    run = interpreter.exec
else:
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    interpreter = interpreters.create()
    run = lambda text: interpreters.run_string(interpreter, text)
run(
    "import sys, os; print(sys.path, sorted(sys.modules), sys.argv, list(sys.path_importer_cache));"
    "print(sorted(os.environ), flush=True)"
)
