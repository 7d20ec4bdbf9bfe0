use Carp;
sub inner { confess "reason" }
sub outer { inner(1, 'two') }
outer();
