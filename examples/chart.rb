# Leaves a picture behind: fetch it with --output "*.svg".

bars = [3, 1, 4, 1, 5, 9, 2, 6].each_with_index.map do |value, index|
  height = value * 10
  %(<rect x="#{index * 20}" y="#{100 - height}" width="16" height="#{height}"/>)
end

File.write("chart.svg", <<~SVG)
  <svg xmlns="http://www.w3.org/2000/svg" width="160" height="100">#{bars.join}</svg>
SVG
puts "chart.svg has #{bars.size} bars"
