#define DNN_DOUBLE 0
#define DNN_LEVEL 0
#define DNN_NAME dnn_f32_baseline
#include "../kernels.c"
