print "$_ ", 'x' x 50, "\n" for 1 .. 15_000;
