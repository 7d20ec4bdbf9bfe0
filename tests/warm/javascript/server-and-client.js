const http = require('http');
const server = http.createServer((request, response) => response.end('answer'));
server.listen('./socket', () => {
  http.get({ socketPath: './socket', path: '/' }, (response) => {
    response.on('data', (data) => console.log(data.toString())).on('end', () => server.close());
  });
});
