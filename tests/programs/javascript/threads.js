const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

if (isMainThread) {
  const parts = [0, 1, 2, 3].map((index) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: index });
    worker.once('message', resolve);
    worker.once('error', reject);
  }));
  Promise.all(parts).then((sums) => console.log('sum', sums.reduce((a, b) => a + b)));
} else {
  let sum = 0;
  for (let number = 25 * workerData; number < 25 * workerData + 25; number++) sum += number;
  parentPort.postMessage(sum);
}
