// Whether this process may use AMX's tiles: the CPU has them, the system saves them, and it has been asked (Linux,
// Documentation/arch/x86/xstate.rst). Compiled once.
#include "products.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

bool qwenvl::may_use_tiles() {
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, TILE_CONFIGURATION = 17, TILES = 18;  // of the states that XCR0 lists
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned needed = 1u << TILE_CONFIGURATION | 1u << TILES;
  return (low & needed) == needed && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILES);
}
#else
bool qwenvl::may_use_tiles() { return false; }
#endif
