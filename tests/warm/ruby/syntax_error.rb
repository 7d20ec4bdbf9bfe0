puts 'never'
if true
  puts 'never'
