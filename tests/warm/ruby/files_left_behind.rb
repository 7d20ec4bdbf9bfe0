Dir.mkdir('made')
File.write('made/text.txt', 'left')
File.open('open.txt', 'w').write('flushed at the end')
p Dir.children('.').sort, Dir.children('/tmp')
