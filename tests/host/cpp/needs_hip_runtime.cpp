// What makes a fake device library like the real one: it does not load before a HIP runtime is in the global scope.
extern "C" int hipLaunchKernel();

int (*const kNeedsRuntime)() = hipLaunchKernel;
