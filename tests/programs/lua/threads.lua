-- Lua has no threads: four coroutines, resumed in turn.
local workers, sum = {}, 0
for index = 0, 3 do
  workers[index] = coroutine.create(function()
    for number = 25 * index, 25 * index + 24 do
      sum = sum + number
      coroutine.yield()
    end
  end)
end
local running = true
while running do
  running = false
  for index = 0, 3 do
    running = coroutine.resume(workers[index]) or running
  end
end
print(string.format("sum %d", sum))
