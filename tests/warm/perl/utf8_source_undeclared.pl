print length("ü"), "\n";
