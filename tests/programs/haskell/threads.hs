import Control.Concurrent (forkOS, newEmptyMVar, putMVar, takeMVar)
import Control.Monad (forM)

main :: IO ()
main = do
  parts <- forM [0 .. 3] $ \index -> do
    part <- newEmptyMVar
    _ <- forkOS (putMVar part $! sum [25 * index .. 25 * index + 24 :: Int])
    return part
  sums <- mapM takeMVar parts
  putStrLn ("sum " ++ show (sum sums))
