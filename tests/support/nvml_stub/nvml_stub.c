/* A stand-in for the NVIDIA driver's libnvidia-ml.so.1: two boards, the second with MIG where asked for.
 *
 * The environment says how it behaves. STUB_HANG names a file: while it exists, utilisation is not answered.
 * STUB_LOST names a file whose presence takes board 1 off the bus; it is found again only by a new nvmlInit.
 * STUB_THROTTLE names a file that holds board 0's reasons for low clocks. STUB_SLOW_MS delays every field, STUB_INIT
 * is the code of nvmlInit, STUB_FAN the code of the fan's speed, STUB_MIG=1 splits board 1 into two instances.
 * STUB_IDLE=1 leaves nearly all memory free: the queue gives away no board that other programs use.
 * -DWITHOUT_POWER leaves a function out, -DOLD_DRIVER has the functions of a driver before 535, and nothing slow.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define GPU_IS_LOST 15

typedef struct { int board, instance; char uuid[48]; } Device;
static Device devices[] = {
    {0, -1, "GPU-aaaaaaaa-0000-0000-0000-000000000000"},
    {1, -1, "GPU-bbbbbbbb-1111-1111-1111-111111111111"},
    {1, 0, "MIG-cccccccc-2222-2222-2222-222222222222"},
    {1, 1, "MIG-dddddddd-3333-3333-3333-333333333333"},
};

static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

static int exists(const char *name) { const char *path = getenv(name); return path && access(path, F_OK) == 0; }

static int lost;

static int answer(Device *device) {
    if (number("STUB_SLOW_MS")) usleep(1000 * number("STUB_SLOW_MS"));
    lost = lost || exists("STUB_LOST");
    return device->board == 1 && lost ? GPU_IS_LOST : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; lost = 0; return number("STUB_INIT"); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "Driver/library version mismatch"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index > 1) return INVALID_ARGUMENT;
    *device = &devices[index];
    return answer(*device);
}

int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "%s", device->uuid);
    return answer(device);
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    if (!number("STUB_MIG")) return NOT_SUPPORTED;
    *current = *pending = device->board == 1;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) { (void)device; *count = 3; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(Device *board, unsigned index, Device **device) {
    (void)board;
    if (index > 1) return NOT_FOUND;
    *device = &devices[2 + index];
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, unsigned *rates) {
    while (exists("STUB_HANG")) usleep(5000);
    if (device->instance >= 0) return NOT_SUPPORTED;
    rates[0] = 40 + device->board;
    rates[1] = 10;
    return answer(device);
}

int nvmlDeviceGetMemoryInfo(Device *device, unsigned long long *memory) {
    memory[0] = 16ULL << 30;
    memory[2] = (unsigned long long)(device->instance >= 0 ? 1 + device->instance : 4 + device->board) << 30;
    if (number("STUB_IDLE")) memory[2] = 300ULL << 20;
    memory[1] = memory[0] - memory[2];
    return answer(device);
}

int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *degrees) {
    (void)sensor;
    *degrees = 50 + device->board;
    return answer(device);
}

#ifndef WITHOUT_POWER
int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    *milliwatts = 120500 + 1000 * device->board;
    return answer(device);
}
#endif

int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    *milliwatts = 300000;
    return answer(device);
}

int nvmlDeviceGetClockInfo(Device *device, int clock, unsigned *mhz) {
    *mhz = clock == 1 ? 1400 + device->board : 2600;
    return answer(device);
}

int nvmlDeviceGetName(Device *device, char *name, unsigned length) {
    snprintf(name, length, "Stub %d", device->board);
    return answer(device);
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "550.54.15");
    return 0;
}

int nvmlDeviceGetFanSpeed(Device *device, unsigned *percent) {
    *percent = 30;
    return number("STUB_FAN") ? number("STUB_FAN") : answer(device);
}

static int reasons(Device *device, unsigned long long *mask) {
    FILE *file = device->board == 0 && exists("STUB_THROTTLE") ? fopen(getenv("STUB_THROTTLE"), "r") : NULL;
    *mask = 1;
    if (file) {
        if (fscanf(file, "%llu", mask) != 1) *mask = 1;
        fclose(file);
    }
    return answer(device);
}

#ifdef OLD_DRIVER
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, unsigned long long *mask) { return reasons(device, mask); }
#else
int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *mask) { return reasons(device, mask); }

int nvmlDeviceGetPcieThroughput(Device *device, int counter, unsigned *kib_per_second) {
    *kib_per_second = counter == 1 ? 2048 : 1024;
    return answer(device);
}

int nvmlDeviceGetTotalEccErrors(Device *device, int kind, int counter, unsigned long long *count) {
    (void)counter;
    *count = kind == 0 ? 3 : 0;
    /* Only the first board has memory that corrects itself. */
    return device->board == 0 ? answer(device) : NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    static unsigned long long used[2] = {7000000, 9000000};
    *millijoules = used[device->board];
    used[device->board] += 2500;
    return answer(device);
}
#endif
