process.stdout.write('x'.repeat(30000) + '\n');
console.error('y'.repeat(30000));
process.exit(3);
