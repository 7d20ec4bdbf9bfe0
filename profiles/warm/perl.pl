# Boot program of Perl: the whole start of the interpreter, up to where it reads its program.
#
# The interpreter opens its program before it does what -M says, and reads it after that. So an empty
# program is made first, and an interpreter started with it. There this file waits for the job, and
# puts the real program on the open file's descriptor. It is read and run by the interpreter's own
# code. Whatever can not be done like that, a program with another name for one, is left to a plain
# interpreter that takes this one's place. No module is loaded here: it would stay behind.
{
    my $program = 'main.pl';
    my $self    = __FILE__;

    open my $file, '<', '/proc/self/cmdline' or die;
    sysread $file, my $text, 65536;
    close $file;
    my ($interpreter) = split /\0/, $text;

    if ($0 eq $self) {
        # The pipes go out of the way of the program's descriptor, which then has the number that it
        # always has.
        local $^F = 255;
        my @kept;
        for my $pipe (3, 4) {
            my @low;
            while (1) {
                open my $copy, $pipe == 3 ? '<&' : '>&', $pipe or die;
                if (fileno($copy) >= 60) {
                    push @kept, $copy;
                    last;
                }
                fcntl $copy, 2, 1;
                push @low, $copy;
            }
        }
        open $file, '>', $program or die;
        fcntl $file, 2, 1;
        for my $pipe (3, 4) {
            open my $handle, $pipe == 3 ? '<&=' : '>&=', $pipe or die;
            fcntl $handle, 2, 1;
            push @kept, $handle;
        }
        exec {$interpreter} $interpreter, "-M5.006;BEGIN{do q{$self}}", $program;
    }

    unlink $program;
    open my $ready, '>&=', 61 or die;
    syswrite $ready, '!';
    close $ready;
    open my $pipe, '<&=', 60 or die;
    my $job = '';
    1 while sysread $pipe, $job, 65536, length $job;
    close $pipe;
    exit 0 if $job eq '';

    my ($count, @strings) = split /\0/, $job, -1;
    pop @strings;
    my @arguments = splice @strings, 0, $count;
    my $as_ever   = $arguments[0] eq $interpreter && $arguments[1] eq $program && -f $program;

    # The interpreter takes options, or another interpreter's name, from such a line, and looks for
    # more in its own command line then.
    if ($as_ever && open $file, '<', $program) {
        sysread $file, $text, 1024;
        close $file;
        $as_ever = 0 if $text =~ /^[^\n]{0,80}#!/ && $text !~ m{^#!\S*(?:/|/env )perl(?: -[wW]+)?\r?(?:\n|\z)};
    }

    %ENV = ();
    for (@strings) {
        my ($name, $value) = split /=/, $_, 2;
        $ENV{$name} = $value;
    }
    exec {$arguments[0]} @arguments unless $as_ever;

    @ARGV = @arguments[2 .. $#arguments];
    {
        local $^F = 3;
        open my $opened, '<&=', 3 or die;
        open $opened, '<', $program or die;
        fcntl $opened, 2, 1;
    }
    $^T = time;
    delete $INC{$self};
    # Names that stand in the symbol table since this file was compiled.
    delete @main::{"\x06", "\x12E_TRIE_MAXBUF", "\x14", '!', 'BEGIN', '__ANON__'};
    $! = 0;
}
