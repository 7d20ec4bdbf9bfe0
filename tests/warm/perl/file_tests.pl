print -s $0, ' ', -M $0 < 1 ? 'recent' : 'old', ' ', -d '.' ? 'dir' : '', "\n";
