mkdir 'made';
open my $file, '>', 'made/text.txt';
print $file "left\n";
opendir my $directory, '.';
print join(' ', sort readdir $directory), "\n";
