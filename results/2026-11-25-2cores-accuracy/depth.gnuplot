# usage: gnuplot depth.gnuplot   (in this folder)
set terminal svg size 900,380 font 'sans,12' background rgb 'white'
set output 'depth.svg'
set datafile separator ','
set key outside right top
set grid lc rgb '#dddddd'
set logscale y
set format y '%g'
set xlabel 'share of the forward pass'
set ylabel 'mean error of convolution outputs, relative to RMS'
outputs(file) = "< grep '^forward,Conv2d' ".file
do for [name in 'resnet18 resnet50 resnet101 resnet18_trained'] {
    stats outputs(name.'.csv') using 6 nooutput name name
}
plot [0:1] 1.0 / 512 with lines lc rgb '#888888' title '1/512', \
     outputs('resnet101.csv') using ($0 / resnet101_records):6 with lines lc rgb '#d62728' title 'ResNet-101, initial weights', \
     outputs('resnet50.csv') using ($0 / resnet50_records):6 with lines lc rgb '#ff7f0e' title 'ResNet-50, initial weights', \
     outputs('resnet18.csv') using ($0 / resnet18_records):6 with lines lc rgb '#1f77b4' title 'ResNet-18, initial weights', \
     outputs('resnet18_trained.csv') using ($0 / resnet18_trained_records):6 with lines lc rgb '#2ca02c' title 'ResNet-18, trained'
