if true; then echo "not closed"
