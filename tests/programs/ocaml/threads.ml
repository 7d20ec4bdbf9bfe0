let parts = Array.make 4 0

let add index =
  for number = 25 * index to (25 * index) + 24 do
    parts.(index) <- parts.(index) + number
  done

let () =
  let threads = List.map (Thread.create add) [ 0; 1; 2; 3 ] in
  List.iter Thread.join threads;
  Printf.printf "sum %d\n" (Array.fold_left ( + ) 0 parts)
