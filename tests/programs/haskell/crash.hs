main :: IO ()
main = error "crash on purpose"
