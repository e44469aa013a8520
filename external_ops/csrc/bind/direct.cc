#ifdef QWENVL_PYTHON
#include "direct.h"

PyMODINIT_FUNC PyInit__ops() {
  auto& functions = qwenvl::direct::functions();
  functions.push_back({nullptr, nullptr, 0, nullptr});
  static PyModuleDef definition{PyModuleDef_HEAD_INIT, "_ops", nullptr, -1, functions.data()};
  return PyModule_Create(&definition);
}
#endif
