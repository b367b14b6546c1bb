/* Functions that an exported policy is made of; only those that a policy calls are written to its file. */

//// sigmoid
static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

//// log1p_positive
/* ln(1 + x), x >= 0, from the exponent of u = 1 + x and an odd series in (m - 1) / (m + 1), |.| < 0.172, corrected by
 * x / (u - 1) for what 1 + x has rounded away. */
static float log1p_positive(float x)
{
    const float u = 1.0f + x;
    uint32_t bits;
    int32_t exponent;
    float m, s, q, log_u;

    if (!(u > 1.0f)) {
        return x;
    }
    memcpy(&bits, &u, sizeof bits);
    exponent = (int32_t)(bits >> 23) - 127;
    bits = (bits & 0x007fffffu) | 0x3f800000u;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.41421356f) {
        m *= 0.5f;
        exponent += 1;
    }
    s = (m - 1.0f) / (m + 1.0f);
    q = s * s;
    log_u = 2.0f * s * (1.0f + q * (0.333333333f + q * (0.2f + q * (0.142857143f + q * 0.111111111f))));
    log_u += 0.69314718056f * (float)exponent;
    return x < 1.0f ? log_u * (x / (u - 1.0f)) : log_u;
}

//// dense
/* y = W x + b for each of `rows` vectors x; W is [outputs][inputs]. */
static void dense(float *y, const float *x, const float *w, const float *b, int rows, int inputs, int outputs)
{
    int r, o, i;

    for (r = 0; r < rows; ++r) {
        const float *row = w;
        for (o = 0; o < outputs; ++o) {
            float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
            for (i = 0; i + 3 < inputs; i += 4) {
                s0 += row[i] * x[i];
                s1 += row[i + 1] * x[i + 1];
                s2 += row[i + 2] * x[i + 2];
                s3 += row[i + 3] * x[i + 3];
            }
            for (; i < inputs; ++i) {
                s0 += row[i] * x[i];
            }
            y[o] = (s0 + s1) + (s2 + s3) + b[o];
            row += inputs;
        }
        x += inputs;
        y += outputs;
    }
}

//// block_dense
/* y_g = W_g x_g for each of `groups` slices of x. */
static void block_dense(float *y, const float *x, const float *w, int groups, int inputs, int outputs)
{
    int g, o, i;

    for (g = 0; g < groups; ++g) {
        for (o = 0; o < outputs; ++o) {
            float sum = 0.0f;
            for (i = 0; i < inputs; ++i) {
                sum += *w++ * x[i];
            }
            *y++ = sum;
        }
        x += inputs;
    }
}

//// add
static void add(float *y, const float *a, const float *b, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = a[i] + b[i];
    }
}

//// multiply
static void multiply(float *y, const float *a, const float *b, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = a[i] * b[i];
    }
}

//// apply_tanh
static void apply_tanh(float *y, const float *x, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = tanhf(x[i]);
    }
}

//// apply_sigmoid
static void apply_sigmoid(float *y, const float *x, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = sigmoid(x[i]);
    }
}

//// apply_silu
static void apply_silu(float *y, const float *x, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = x[i] * sigmoid(x[i]);
    }
}

//// apply_gelu
static void apply_gelu(float *y, const float *x, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        const float v = x[i];
        y[i] = 0.5f * v * (1.0f + tanhf(0.797884561f * (v + 0.044715f * v * v * v)));
    }
}

//// apply_symlog
static void apply_symlog(float *y, const float *x, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = x[i] < 0.0f ? -log1p_positive(-x[i]) : log1p_positive(x[i]);
    }
}

//// affine
/* (x + shift) * scale; a step of 0 uses one constant for all. */
static void affine(float *y, const float *x, const float *shift, int shift_step, const float *scale, int scale_step,
                   int rows, int n)
{
    int r, i;

    for (r = 0; r < rows; ++r) {
        for (i = 0; i < n; ++i) {
            y[i] = (x[i] + shift[i * shift_step]) * scale[i * scale_step];
        }
        x += n;
        y += n;
    }
}

//// affine_pixels
/* The same of bytes. */
static void affine_pixels(float *y, const uint8_t *x, const float *shift, int shift_step, const float *scale,
                          int scale_step, int rows, int n)
{
    int r, i;

    for (r = 0; r < rows; ++r) {
        for (i = 0; i < n; ++i) {
            y[i] = ((float)x[i] + shift[i * shift_step]) * scale[i * scale_step];
        }
        x += n;
        y += n;
    }
}

//// clip
static void clip(float *y, const float *x, float low, float high, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = x[i] < low ? low : (x[i] > high ? high : x[i]);
    }
}

//// rms_norm
/* x / sqrt(mean(x^2) + epsilon) * scale for each of `rows` vectors. */
static void rms_norm(float *y, const float *x, const float *scale, float epsilon, int rows, int n)
{
    int r, i;

    for (r = 0; r < rows; ++r) {
        float sum = 0.0f, inverse;
        for (i = 0; i < n; ++i) {
            sum += x[i] * x[i];
        }
        inverse = 1.0f / sqrtf(sum / (float)n + epsilon);
        for (i = 0; i < n; ++i) {
            y[i] = x[i] * inverse * scale[i];
        }
        x += n;
        y += n;
    }
}

//// put
/* Copies rows of n numbers into rows that are `stride` numbers apart. */
static void put(float *y, const float *x, int rows, int n, int stride)
{
    int r, i;

    for (r = 0; r < rows; ++r) {
        for (i = 0; i < n; ++i) {
            y[i] = x[i];
        }
        x += n;
        y += stride;
    }
}

//// recurrence
/* x' = decay x + drive of n / 2 complex numbers, (re, im) one after the other. */
static void recurrence(float *y, const float *x, const float *drive, const float *decay, int n)
{
    int i;

    for (i = 0; i < n; i += 2) {
        const float re = x[i], im = x[i + 1];
        y[i] = decay[i] * re - decay[i + 1] * im + drive[i];
        y[i + 1] = decay[i] * im + decay[i + 1] * re + drive[i + 1];
    }
}

//// one_hot
static void one_hot(float *y, const float *x, int groups, int classes)
{
    int g, i;

    for (g = 0; g < groups; ++g) {
        int largest = 0;
        for (i = 0; i < classes; ++i) {
            y[i] = 0.0f;
            if (x[i] > x[largest]) {
                largest = i;
            }
        }
        y[largest] = 1.0f;
        x += classes;
        y += classes;
    }
}

//// choose
static void choose(float *y, float flag, const float *a, const float *b, int n)
{
    int i;

    for (i = 0; i < n; ++i) {
        y[i] = flag > 0.5f ? a[i] : b[i];
    }
}

//// conv
/* Convolution with stride 1 and zeros around; the kernel is [size][size][inputs][outputs]. */
static void conv(float *y, const float *x, const float *kernel, const float *bias, int high, int wide, int inputs,
                 int outputs, int size)
{
    const int before = (size - 1) / 2;
    int h, w, i, j, c, o;

    for (h = 0; h < high; ++h) {
        for (w = 0; w < wide; ++w) {
            for (o = 0; o < outputs; ++o) {
                y[o] = bias[o];
            }
            for (i = 0; i < size; ++i) {
                for (j = 0; j < size; ++j) {
                    const int row = h + i - before, column = w + j - before;
                    const float *pixel, *k;
                    if (row < 0 || row >= high || column < 0 || column >= wide) {
                        continue;
                    }
                    pixel = x + (row * wide + column) * inputs;
                    k = kernel + (i * size + j) * inputs * outputs;
                    for (c = 0; c < inputs; ++c) {
                        for (o = 0; o < outputs; ++o) {
                            y[o] += pixel[c] * k[c * outputs + o];
                        }
                    }
                }
            }
            y += outputs;
        }
    }
}

//// max_pool
/* The largest of each 2 x 2 pixels. */
static void max_pool(float *y, const float *x, int high, int wide, int channels)
{
    int h, w, c;

    for (h = 0; h < high; h += 2) {
        for (w = 0; w < wide; w += 2) {
            const float *top = x + (h * wide + w) * channels, *bottom = top + wide * channels;
            for (c = 0; c < channels; ++c) {
                const float above = top[c] > top[c + channels] ? top[c] : top[c + channels];
                const float below = bottom[c] > bottom[c + channels] ? bottom[c] : bottom[c + channels];
                *y++ = above > below ? above : below;
            }
        }
    }
}

//// patches
/* The pixels of each square, row by row. */
static void patches(float *y, const float *x, int high, int wide, int channels, int side)
{
    int h, w, i, j;

    for (h = 0; h < high; h += side) {
        for (w = 0; w < wide; w += side) {
            for (i = 0; i < side; ++i) {
                const float *pixels = x + ((h + i) * wide + w) * channels;
                for (j = 0; j < side * channels; ++j) {
                    *y++ = pixels[j];
                }
            }
        }
    }
}
