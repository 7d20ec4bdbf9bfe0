<?php
// PHP has no threads: four processes, each with a pipe of its own.
$pipes = [];
for ($index = 0; $index < 4; $index++) {
    [$here, $there] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    if (pcntl_fork() === 0) {
        fwrite($there, array_sum(range(25 * $index, 25 * $index + 24)) . "\n");
        exit(0);
    }
    fclose($there);
    $pipes[] = $here;
}
$sum = 0;
foreach ($pipes as $pipe) {
    $sum += (int) fgets($pipe);
}
while (pcntl_wait($status) > 0) {
}
echo "sum $sum\n";
