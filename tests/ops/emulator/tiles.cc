#include "products.h"

bool qwenvl::may_use_tiles() { return true; }
