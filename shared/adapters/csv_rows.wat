;; Counts the rows of a delimited table as pandas.read_csv does, while its bytes stream by. Runs under csv_rows.py.
;;
;; There are two ways through the same bytes, to one result. `$step` is the automaton: one byte, one state. `$stride`
;; takes 64 bytes at once where their quotes and line ends are usual, with a bit for each in one mask per character that
;; matters; inside quotes is where the running XOR of the quotes' mask is set (Langdale and Lemire, "Parsing Gigabytes
;; of JSON per Second", https://arxiv.org/abs/1902.08318, section 3.1).
;;
;; The memory holds the bytes and nothing else. What is carried on from one call to the next is in the globals.
(module
  ;; 2 MiB of bytes.
  (memory (export "memory") 32)

  ;; [bytes] A quote that is never closed would otherwise be noticed only at the end of the file.
  (global $LONGEST_RECORD i64 (i64.const 16777216))

  ;; Where the last byte has led to.
  (global $RECORD_START i32 (i32.const 0))
  (global $FIELD_START i32 (i32.const 1))
  (global $IN_FIELD i32 (i32.const 2))
  (global $IN_QUOTES i32 (i32.const 3))
  ;; After a quote inside quotes: the end of them, or the first half of a quote.
  (global $QUOTE_SEEN i32 (i32.const 4))
  ;; A carriage return has ended a record; a line feed after it belongs to it.
  (global $RETURN_SEEN i32 (i32.const 5))
  (global $state (mut i32) (i32.const 0))

  (global $delimiter (export "delimiter") (mut i32) (i32.const 44))
  ;; Records that are complete, the header with them; blank lines are none.
  (global $records (export "records") (mut i64) (i64.const 0))
  ;; Fields of the header, and of the wider of the first two records: no other may have more.
  (global $header_fields (export "header_fields") (mut i32) (i32.const 0))
  (global $width (export "width") (mut i32) (i32.const 0))
  ;; Line feeds so far, those before the present record, and those before its last quoted field.
  (global $lines (export "lines") (mut i64) (i64.const 0))
  (global $lines_before_record (export "lines_before_record") (mut i64) (i64.const 0))
  (global $lines_before_quotes (export "lines_before_quotes") (mut i64) (i64.const 0))
  ;; Of the present record: where it starts in all bytes, its delimiters, and whether something not blank was seen.
  (global $bytes (mut i64) (i64.const 0))
  (global $record_start (mut i64) (i64.const 0))
  (global $delimiters (export "delimiters") (mut i32) (i32.const 0))
  (global $is_seen (mut i32) (i32.const 0))
  ;; The same in the memory; 0 also if it began in an earlier call.
  (global $start (mut i32) (i32.const 0))

  ;; A bit for each of 64 bytes that equals those of `character`, the lowest for the first.
  (func $mask (param $a v128) (param $b v128) (param $c v128) (param $d v128) (param $character v128) (result i64)
    (i64.or
      (i64.or
        (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $a) (local.get $character))))
        (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $b) (local.get $character)))) (i64.const 16)))
      (i64.or
        (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $c) (local.get $character)))) (i64.const 32))
        (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $d) (local.get $character)))) (i64.const 48)))))

  ;; Each bit becomes the XOR of itself and all below it.
  (func $running_xor (param $x i64) (result i64)
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 1))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 2))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 4))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 8))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 16))))
    (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 32))))

  ;; The bits of `x` that `y` does not have.
  (func $without (param $x i64) (param $y i64) (result i64)
    (i64.and (local.get $x) (i64.xor (local.get $y) (i64.const -1))))

  ;; Line feeds so far, with those of the lowest `n` bits of `feeds`; n from 0 to 64.
  (func $lines_with (param $feeds i64) (param $n i32) (result i64)
    (if (i32.lt_u (local.get $n) (i32.const 64))
      (then
        (local.set $feeds
          (i64.and
            (local.get $feeds)
            (i64.sub (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $n))) (i64.const 1))))))
    (i64.add (global.get $lines) (i64.popcnt (local.get $feeds))))

  ;; Whether a byte leaves a line blank: a space or tab that is no delimiter, or the return of its end.
  (func $is_blank (param $byte i32) (result i32)
    (i32.and
      (i32.ne (local.get $byte) (global.get $delimiter))
      (i32.or
        (i32.or (i32.eq (local.get $byte) (i32.const 32)) (i32.eq (local.get $byte) (i32.const 9)))
        (i32.eq (local.get $byte) (i32.const 13)))))

  ;; Note whether the present record has something that is not blank before `end`.
  (func $look (param $end i32)
    (local $at i32)
    (local.set $at (global.get $start))
    (loop $next
      (if (i32.and (i32.lt_u (local.get $at) (local.get $end)) (i32.eqz (global.get $is_seen)))
        (then
          (global.set $is_seen (i32.eqz (call $is_blank (i32.load8_u (local.get $at)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))))

  ;; Count the present record unless it is blank, and begin the next at `next`. Returns 1 if it is too wide, else 0.
  (func $end_record (param $next i32) (result i32)
    (local $fields i32)
    (local.set $fields (i32.add (global.get $delimiters) (i32.const 1)))
    (if (i32.or (global.get $delimiters) (global.get $is_seen))
      (then
        (if (i64.eqz (global.get $records)) (then (global.set $header_fields (local.get $fields))))
        (if (i32.gt_u (local.get $fields) (global.get $width))
          (then
            ;; The first row may be wider than the header: pandas then takes its first columns for an index.
            (if (i64.ge_u (global.get $records) (i64.const 2)) (then (return (i32.const 1))))
            (global.set $width (local.get $fields))))
        (global.set $records (i64.add (global.get $records) (i64.const 1)))))
    (global.set $delimiters (i32.const 0))
    (global.set $is_seen (i32.const 0))
    (global.set $start (local.get $next))
    (global.set $lines_before_record (global.get $lines))
    (i32.const 0))

  ;; Take one byte at `at`. Returns 1 if it ends a record that is too wide, 3 if it is NUL, else 0.
  (func $step (param $at i32) (result i32)
    (local $byte i32)
    (local $next i32)
    (local.set $byte (i32.load8_u (local.get $at)))
    (local.set $next (i32.add (local.get $at) (i32.const 1)))
    (if (i32.eqz (local.get $byte)) (then (return (i32.const 3))))
    (if (i32.eq (global.get $state) (global.get $IN_QUOTES))
      (then
        (if (i32.eq (local.get $byte) (i32.const 34)) (then (global.set $state (global.get $QUOTE_SEEN))))
        (if (i32.eq (local.get $byte) (i32.const 10))
          (then (global.set $lines (i64.add (global.get $lines) (i64.const 1)))))
        (return (i32.const 0))))
    (if (i32.eq (global.get $state) (global.get $RETURN_SEEN))
      (then
        (global.set $state (global.get $RECORD_START))
        (if (i32.eq (local.get $byte) (i32.const 10))
          (then
            (global.set $lines (i64.add (global.get $lines) (i64.const 1)))
            (global.set $lines_before_record (global.get $lines))
            (global.set $start (local.get $next))
            (return (i32.const 0))))))
    (if (i32.eq (local.get $byte) (i32.const 34))
      (then
        ;; A quote opens a field at its start only, or repeats one inside; anywhere else it is a character.
        (if (i32.le_u (global.get $state) (global.get $FIELD_START))
          (then (global.set $lines_before_quotes (global.get $lines))))
        (global.set $state
          (select
            (global.get $IN_FIELD) (global.get $IN_QUOTES)
            (i32.eq (global.get $state) (global.get $IN_FIELD))))
        (global.set $is_seen (i32.const 1))
        (return (i32.const 0))))
    (if (i32.eq (local.get $byte) (global.get $delimiter))
      (then
        (global.set $delimiters (i32.add (global.get $delimiters) (i32.const 1)))
        (global.set $state (global.get $FIELD_START))
        (return (i32.const 0))))
    (if (i32.eq (local.get $byte) (i32.const 10))
      (then
        (if (call $end_record (local.get $next)) (then (return (i32.const 1))))
        (global.set $lines (i64.add (global.get $lines) (i64.const 1)))
        (global.set $lines_before_record (global.get $lines))
        (global.set $state (global.get $RECORD_START))
        (return (i32.const 0))))
    (if (i32.eq (local.get $byte) (i32.const 13))
      (then
        (global.set $state (global.get $RETURN_SEEN))
        (return (call $end_record (local.get $next)))))
    (if (i32.eqz (call $is_blank (local.get $byte))) (then (global.set $is_seen (i32.const 1))))
    (global.set $state (global.get $IN_FIELD))
    (i32.const 0))

  ;; The state after the last of 64 bytes.
  (func $state_after (param $inside i64) (param $quotes i64) (param $ends i64) (param $splits i64) (result i32)
    (if (i64.lt_s (local.get $inside) (i64.const 0)) (then (return (global.get $IN_QUOTES))))
    (if (i64.lt_s (local.get $quotes) (i64.const 0)) (then (return (global.get $QUOTE_SEEN))))
    (if (i64.lt_s (local.get $ends) (i64.const 0)) (then (return (global.get $RECORD_START))))
    (if (i64.lt_s (local.get $splits) (i64.const 0)) (then (return (global.get $FIELD_START))))
    (global.get $IN_FIELD))

  ;; Take 64 bytes at once, from `at` on, as long as there are so many before `end`, their quotes and line ends are
  ;; usual, and none is NUL. Returns where it stopped, or -1 at a record that is too wide.
  (func $stride (param $at i32) (param $end i32) (result i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $feed v128) (local $quote v128) (local $return v128) (local $delimiter v128)
    (local $feeds i64) (local $ends i64) (local $splits i64) (local $quotes i64) (local $returns i64)
    (local $inside i64) (local $opens i64)
    (local $next i32) (local $n i32) (local $so_far i32) (local $n_plain i64) (local $width i32)
    (local.set $feed (i8x16.splat (i32.const 10)))
    (local.set $quote (i8x16.splat (i32.const 34)))
    (local.set $return (i8x16.splat (i32.const 13)))
    (local.set $delimiter (i8x16.splat (global.get $delimiter)))
    (loop $next_64
      (if (i32.gt_u (i32.add (local.get $at) (i32.const 64)) (local.get $end)) (then (return (local.get $at))))
      (local.set $quotes (i64.const 0))
      (local.set $returns (i64.const 0))
      (local.set $inside (i64.const 0))
      (local.set $opens (i64.const 0))
      (local.set $next (i32.const 0))
      (local.set $n_plain (i64.const 0))
      (local.set $a (v128.load (local.get $at)))
      (local.set $b (v128.load offset=16 (local.get $at)))
      (local.set $c (v128.load offset=32 (local.get $at)))
      (local.set $d (v128.load offset=48 (local.get $at)))
      ;; The least of four bytes is NUL if one of them is.
      (if (i32.eqz
            (i8x16.all_true
              (i8x16.min_u
                (i8x16.min_u (local.get $a) (local.get $b))
                (i8x16.min_u (local.get $c) (local.get $d)))))
        (then (return (local.get $at))))
      ;; As `$mask` does, but written out: a call for each would take an eighth longer in all.
      (local.set $feeds
        (i64.or
          (i64.or
            (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $a) (local.get $feed))))
            (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $b) (local.get $feed)))) (i64.const 16)))
          (i64.or
            (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $c) (local.get $feed)))) (i64.const 32))
            (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $d) (local.get $feed)))) (i64.const 48)))))
      (local.set $splits
        (i64.or
          (i64.or
            (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $a) (local.get $delimiter))))
            (i64.shl
              (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $b) (local.get $delimiter))))
              (i64.const 16)))
          (i64.or
            (i64.shl (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $c) (local.get $delimiter)))) (i64.const 32))
            (i64.shl
              (i64.extend_i32_u (i8x16.bitmask (i8x16.eq (local.get $d) (local.get $delimiter))))
              (i64.const 48)))))
      (local.set $ends (local.get $feeds))
      (if (v128.any_true
            (v128.or
              (v128.or
                (v128.or (i8x16.eq (local.get $a) (local.get $quote)) (i8x16.eq (local.get $b) (local.get $quote)))
                (v128.or (i8x16.eq (local.get $c) (local.get $quote)) (i8x16.eq (local.get $d) (local.get $quote))))
              (v128.or
                (v128.or (i8x16.eq (local.get $a) (local.get $return)) (i8x16.eq (local.get $b) (local.get $return)))
                (v128.or (i8x16.eq (local.get $c) (local.get $return)) (i8x16.eq (local.get $d) (local.get $return))))))
        (then
          (local.set $quotes
            (call $mask (local.get $a) (local.get $b) (local.get $c) (local.get $d) (local.get $quote)))
          (local.set $returns
            (call $mask (local.get $a) (local.get $b) (local.get $c) (local.get $d) (local.get $return)))))
      (if (i32.or (i64.ne (local.get $quotes) (i64.const 0)) (i32.eq (global.get $state) (global.get $IN_QUOTES)))
        (then
          (local.set $inside (call $running_xor (local.get $quotes)))
          (if (i32.eq (global.get $state) (global.get $IN_QUOTES))
            (then (local.set $inside (i64.xor (local.get $inside) (i64.const -1)))))
          (local.set $opens (i64.and (local.get $quotes) (local.get $inside)))
          ;; A quote does not open after anything but a delimiter, a line end or a quote.
          (if (i64.ne
                (i64.const 0)
                (call $without
                  (local.get $opens)
                  (i64.or
                    (i64.shl (i64.or (local.get $quotes) (i64.or (local.get $feeds) (local.get $splits))) (i64.const 1))
                    (i64.extend_i32_u (i32.ne (global.get $state) (global.get $IN_FIELD))))))
            (then (return (local.get $at))))
          (local.set $ends (call $without (local.get $feeds) (local.get $inside)))
          (local.set $splits (call $without (local.get $splits) (local.get $inside)))
          (local.set $returns (call $without (local.get $returns) (local.get $inside)))))
      ;; After a return outside quotes comes the line feed of the same line end.
      (if (i64.ne (i64.const 0) (call $without (local.get $returns) (i64.shr_u (local.get $ends) (i64.const 1))))
        (then (return (local.get $at))))
      ;; Of the quotes that open, those that begin a field rather than repeat a quote.
      (local.set $opens
        (call $without
          (local.get $opens)
          (i64.or
            (i64.shl (local.get $quotes) (i64.const 1))
            (i64.extend_i32_u (i32.eq (global.get $state) (global.get $QUOTE_SEEN))))))
      (if (i64.ne (local.get $opens) (i64.const 0))
        (then
          (global.set $lines_before_quotes
            (call $lines_with
              (local.get $feeds)
              (i32.wrap_i64 (i64.sub (i64.const 63) (i64.clz (local.get $opens))))))))
      (global.set $state
        (call $state_after (local.get $inside) (local.get $quotes) (local.get $ends) (local.get $splits)))
      ;; Delimiters of these bytes that belong to records before; fewer than none, if the record has had some before.
      (local.set $so_far (i32.sub (i32.const 0) (global.get $delimiters)))
      (local.set $width (global.get $width))
      (block $no_more
        (loop $next_record
          (br_if $no_more (i64.eqz (local.get $ends)))
          (local.set $next (i32.add (i32.wrap_i64 (i64.ctz (local.get $ends))) (i32.const 1)))
          ;; `ends - 1` has all bits below the first, and the other ends, which are no delimiters.
          (local.set $n
            (i32.sub
              (i32.wrap_i64 (i64.popcnt (i64.and (local.get $splits) (i64.sub (local.get $ends) (i64.const 1)))))
              (local.get $so_far)))
          (local.set $so_far (i32.add (local.get $so_far) (local.get $n)))
          (local.set $ends (i64.and (local.get $ends) (i64.sub (local.get $ends) (i64.const 1))))
          ;; Most records are as wide as the widest, and have a delimiter.
          (if (i32.and
                (i32.eq (i32.add (local.get $n) (i32.const 1)) (local.get $width))
                (i32.ne (local.get $n) (i32.const 0)))
            (then
              (local.set $n_plain (i64.add (local.get $n_plain) (i64.const 1)))
              (global.set $is_seen (i32.const 0))
              (global.set $start (i32.add (local.get $at) (local.get $next)))
              (br $next_record)))
          (global.set $records (i64.add (global.get $records) (local.get $n_plain)))
          (local.set $n_plain (i64.const 0))
          (global.set $delimiters (local.get $n))
          (if (i32.eqz (local.get $n))
            (then (call $look (i32.add (local.get $at) (i32.sub (local.get $next) (i32.const 1))))))
          (if (call $end_record (i32.add (local.get $at) (local.get $next)))
            (then
              ;; One that began before these bytes has its number of lines already.
              (if (i32.gt_u (global.get $start) (local.get $at))
                (then
                  (global.set $lines_before_record
                    (call $lines_with (local.get $feeds) (i32.sub (global.get $start) (local.get $at))))))
              (return (i32.const -1))))
          (local.set $width (global.get $width))
          (br $next_record)))
      (global.set $records (i64.add (global.get $records) (local.get $n_plain)))
      (global.set $delimiters (i32.sub (i32.wrap_i64 (i64.popcnt (local.get $splits))) (local.get $so_far)))
      (if (local.get $next)
        (then (global.set $lines_before_record (call $lines_with (local.get $feeds) (local.get $next)))))
      (global.set $lines (i64.add (global.get $lines) (i64.popcnt (local.get $feeds))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br $next_64))
    (unreachable))

  ;; Take the first `n` bytes of the memory. Returns 0, or what stopped it: 1 if a record is too wide, which the globals
  ;; are about then; 3 at NUL; 4 if the present record is longer than any may be.
  (func (export "scan") (param $n i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local $problem i32)
    (global.set $start (i32.const 0))
    (loop $next
      (local.set $at (call $stride (local.get $at) (local.get $n)))
      (if (i32.lt_s (local.get $at) (i32.const 0)) (then (return (i32.const 1))))
      (if (i32.lt_u (local.get $at) (local.get $n))
        (then
          (if (i32.eqz (global.get $delimiters)) (then (call $look (local.get $at))))
          (local.set $end (i32.add (local.get $at) (i32.const 64)))
          (if (i32.gt_u (local.get $end) (local.get $n)) (then (local.set $end (local.get $n))))
          (loop $next_byte
            (local.set $problem (call $step (local.get $at)))
            (if (local.get $problem) (then (return (local.get $problem))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next_byte (i32.lt_u (local.get $at) (local.get $end))))
          (br $next))))
    (if (i32.eqz (global.get $delimiters)) (then (call $look (local.get $n))))
    (if (global.get $start)
      (then
        (global.set $record_start (i64.add (global.get $bytes) (i64.extend_i32_u (global.get $start))))))
    (global.set $bytes (i64.add (global.get $bytes) (i64.extend_i32_u (local.get $n))))
    (select
      (i32.const 4) (i32.const 0)
      (i64.gt_u (i64.sub (global.get $bytes) (global.get $record_start)) (global.get $LONGEST_RECORD))))

  ;; End the last record, which need not have a line end. Returns 1 if it is too wide, 2 if a quote is open, else 0.
  (func (export "finish") (result i32)
    (if (i32.eq (global.get $state) (global.get $IN_QUOTES)) (then (return (i32.const 2))))
    (if (i32.or
          (i32.eq (global.get $state) (global.get $RECORD_START))
          (i32.eq (global.get $state) (global.get $RETURN_SEEN)))
      (then (return (i32.const 0))))
    (call $end_record (i32.const 0))))
