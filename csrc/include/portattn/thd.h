/* portattn C API: cu_seqlens from the ways in which frameworks describe segments, made on the device.
 *
 * A batch is `rows` rows of `row_tokens` tokens; each row holds up to n segments. Segment i of row r becomes sequence
 * r * n + i: an unused one is a sequence without tokens. No length is read on the host.
 */
#ifndef PORTATTN_THD_H_
#define PORTATTN_THD_H_

#include "portattn/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Exactly one of lengths and segment_ids is given; struct_size is the size of the struct. Every tensor is contiguous
 * int32, all on one device. */
typedef struct NVTESegments {
  size_t struct_size;
  const NVTETensor* lengths;           /* [rows, n], tokens of each segment; below 0 (unused) counts as 0 */
  const NVTETensor* starts;            /* [rows, m], m >= n, first token of each segment in its row, with lengths only;
                                          NULL: 0, and n must be 1 */
  const NVTETensor* segment_ids;       /* [rows, row_tokens]: 1..n, the tokens of one segment side by side; 0 = padding.
                                          With n = 1 every id above 0 is that segment */
  int64_t row_tokens;                  /* tokens of a row */
  const NVTETensor* cu_seqlens;        /* out, [rows * n + 1], cumulative lengths */
  const NVTETensor* cu_seqlens_padded; /* out, [rows * n + 1], where each sequence starts in the batch; NULL: not
                                          wanted, allowed with lengths only */
} NVTESegments;

/* Queries and keys of one attention call, in one launch (two with segment ids). kv may be NULL: the same as q. Errors:
 * rows * row_tokens of 2^31 or more, and those of every other call. */
NVTE_API NVTEStatus nvte_make_cu_seqlens(const NVTESegments* q, const NVTESegments* kv, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* PORTATTN_THD_H_ */
