console.log(Math.abs(Date.now() - performance.timeOrigin - performance.now()) < 1000, process.uptime() < 10);
const begin = Date.now();
while (Date.now() - begin < 20);
console.log(process.cpuUsage().user > 0, process.uptime.name, process.uptime.length);
