const begin = process.hrtime.bigint();
const passed = () => Number(process.hrtime.bigint() - begin) / 1e6;
const seen = [];
setTimeout(() => seen.push(`timeout ${passed() > 190}`), 200);
let n = 0;
const interval = setInterval(() => {
  n++;
  if (n === 3) {
    clearInterval(interval);
    seen.push(`interval ${passed() > 85}`);
  }
}, 30);
require('timers/promises').setTimeout(50).then(() => seen.push(`promise ${passed() > 45}`));
AbortSignal.timeout(100).addEventListener('abort', () => seen.push(`abort ${passed() > 95}`));
// Which comes first is for a busy machine to decide.
process.on('exit', () => console.log(seen.sort()));
