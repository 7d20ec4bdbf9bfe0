;; Four threads add up a quarter of 0..99 each.
(defun quarter (index)
  (loop for number from (* 25 index) below (* 25 (1+ index)) sum number))

(let ((threads (loop for index below 4
                     collect (let ((index index))
                               (sb-thread:make-thread (lambda () (quarter index)))))))
  (format t "sum ~D~%" (reduce #'+ (mapcar #'sb-thread:join-thread threads))))
