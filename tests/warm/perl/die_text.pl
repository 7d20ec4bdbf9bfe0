sub inner {
    die "reason";
}

sub outer { inner(@_) }
outer(1);
