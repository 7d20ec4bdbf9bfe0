package Loud;
sub new { bless { name => $_[1] }, $_[0] }
sub DESTROY { print "destroy $_[0]{name} ${^GLOBAL_PHASE}\n" }
package main;
our $global = Loud->new('global');
my $lexical = Loud->new('lexical');
print "body\n";
