let text = '';
console.log(process.stdin.isTTY, process.stdin.fd, process.stdin.constructor.name);
process.stdin.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => console.log(text.toUpperCase()));
