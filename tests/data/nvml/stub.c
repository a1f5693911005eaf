/* An NVML that begins and then refuses: STUB_CODE is its answer to everything, but where STUB_HANDLE is set GPUs have a
   handle, and GPU STUB_GOOD, one of two, answers as it should. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct memory { unsigned long long total, free, used; };
static int code(void *handle) {
    const char *good = getenv("STUB_GOOD"), *wanted = getenv("STUB_CODE");
    if (good && handle == (void *)(long)(atoi(good) + 1)) return 0;
    return wanted ? atoi(wanted) : 4;
}
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(long)(index + 1);
    return getenv("STUB_HANDLE") ? 0 : code(*handle);
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    snprintf(text, size, "GPU-%ld", (long)handle - 1);
    return code(handle);
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { strncpy(text, "Stub", size); return code(handle); }
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
    memory->total = 80000000000ULL;
    memory->used = memory->free = 40000000000ULL;
    return code(handle);
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { return code(0); }
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) { return code(0); }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *power) { return code(0); }
const char *nvmlErrorString(int result) { return "refused by the stub"; }
