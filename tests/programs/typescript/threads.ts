import { Worker, isMainThread, parentPort, workerData } from 'worker_threads';

if (isMainThread) {
  const parts = [0, 1, 2, 3].map((index) => new Promise<number>((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: index });
    worker.once('message', resolve);
    worker.once('error', reject);
  }));
  Promise.all(parts).then((sums) => console.log('sum', sums.reduce((a, b) => a + b)));
} else {
  const first: number = 25 * workerData;
  let sum = 0;
  for (let number = first; number < first + 25; number++) sum += number;
  parentPort?.postMessage(sum);
}
