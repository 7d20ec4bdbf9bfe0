import sys

print(sys.excepthook is sys.__excepthook__)
sys.excepthook = lambda kind, error, trace: print(
    kind, error, trace.tb_frame.f_code.co_name, trace.tb_next, sys._getframe(1) if trace.tb_frame.f_back else "no frame below"
)
raise ValueError("text")
