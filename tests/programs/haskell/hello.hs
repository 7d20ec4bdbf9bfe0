main :: IO ()
main = putStrLn "hello from haskell"
