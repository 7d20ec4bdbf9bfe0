let () = failwith "crash on purpose"
